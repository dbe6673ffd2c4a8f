"""The card: one HTML page a campaign with its verdict, tables, plots and every answer, readable without a server."""
