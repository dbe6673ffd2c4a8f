"""The version of the project, which its packages share."""

VERSION = "0.2.0"
