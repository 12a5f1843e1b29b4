"""The dashboard of `cloudrun watch`, made with Textual, which is imported here alone."""
