import sys

from tests.component.scripted.settings import Settings
from triptych.runtime import settings
from triptych.server import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run("tests.component.interop", settings.load(Settings)))
