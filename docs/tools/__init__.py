"""Programs that write generated documents and build the site."""
