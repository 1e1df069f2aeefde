"""The sections of a report: each turns computed values into tables and figures."""
