"""What this machine can do: its libraries, its speed, its critic's noise."""
