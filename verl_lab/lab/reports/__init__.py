"""What a report of runs says: its sections and their parts."""
