"""Files cut into records and pieces (docs/design/027-records-as-datums.md)."""
