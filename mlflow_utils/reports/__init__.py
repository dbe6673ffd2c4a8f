"""The written reports in paper_writing/."""
