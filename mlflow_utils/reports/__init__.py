"""Reports for people, in Markdown files that people may edit too."""
