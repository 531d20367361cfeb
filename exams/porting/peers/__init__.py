"""Other tools on the same networks, each in an environment of its own, judged by the same golden outputs."""
