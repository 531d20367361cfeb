"""The scripts that write files of weights need the frameworks: they run in environments of their own."""

collect_ignore = ["make"]
