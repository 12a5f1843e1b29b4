"""Another computer: commands over SSH, and the Python that it has."""
