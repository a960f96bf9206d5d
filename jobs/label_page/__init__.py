"""The web page on which people label: what they are handed, where their decisions go, what the page asks for."""
