"""The campaign folder: what was asked, planned, decided and measured."""
