"""The sections of the report's page: a file each, with what it draws and how it is laid out."""
