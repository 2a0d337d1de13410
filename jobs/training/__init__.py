"""What a training stands on: rows that were known, their audit, their splits."""
