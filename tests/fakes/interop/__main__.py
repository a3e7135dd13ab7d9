import sys

from tests.fakes.scripted.settings import Settings
from triptych.runtime import settings
from triptych.server import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run("tests.fakes.interop", settings.load(Settings)))
