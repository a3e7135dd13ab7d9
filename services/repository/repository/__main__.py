"""`python -m repository`: runs the repository, or one of its tools. `--help` lists settings and tools."""

import sys
from collections.abc import Sequence

from triptych import lifecycle, settings

TOOLS = """
Tools, each with a --help of its own:

  python -m repository rollout    gives a version its share step by step, and takes it back when it is worse
  python -m repository mirror     keeps a folder in step with an object store, for a Triton that reads it
  python -m repository top        what each Triton holds, and what was decided lately
"""


def main() -> int:
    """Without a tool's name, everything is as for each stage: settings from the environment, and --help."""
    match sys.argv[1:]:
        case ["rollout", *arguments]:
            from repository.rollout import command as rollout

            return rollout.main(arguments)
        case ["mirror", *arguments]:
            from repository.catalogue.store import command as mirror

            return mirror.main(arguments)
        case ["top", *arguments]:
            from repository.top import command as top

            return top.main(arguments)
        case arguments:
            return _serve(arguments)


def _serve(arguments: Sequence[str]) -> int:
    from repository.settings import Settings

    if arguments and arguments[0] in ("-h", "--help"):
        sys.stdout.write(settings.describe(Settings) + TOOLS)
        return 0
    config = settings.load(Settings, arguments)
    return lifecycle.run("repository", config)


if __name__ == "__main__":
    sys.exit(main())
