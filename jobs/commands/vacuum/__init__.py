"""`vacuum`: tidies up the files of a lake's tables."""
