"""The command line: parse arguments, call the other rooms, print what came out."""
