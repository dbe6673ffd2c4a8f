"""The attribution appendix: documents and plots."""
