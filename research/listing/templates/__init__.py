"""Plugins to start from. Nothing imports them: `hark new` copies them under another name."""
