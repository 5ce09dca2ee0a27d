"""Lists the benchmarks: ``python -m benchmarks``."""

from benchmarks.harness.index import commands


def main() -> None:
    """Prints the command and the summary of every benchmark."""
    listed = commands()
    width = max(map(len, listed))
    for command, summary in listed.items():
        print(f"{command:<{width}}  {summary}")
    print("\n--tiny shows that a benchmark works, --help describes it.")
    print("python -m benchmarks.gpu runs all that needs a GPU: tests, exports and benchmarks.")


if __name__ == "__main__":
    main()
