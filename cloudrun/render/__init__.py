"""Texts and pages for people: tables, the receipt, the report page."""
