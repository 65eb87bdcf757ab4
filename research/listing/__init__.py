"""What there is: a table of names, a page for each plugin, and a file to start another one from."""
