"""What is made of runs that are done: pages, exports, rewards."""
