"""The loop and what it decides by: nothing here knows torch, disk or terminal."""
