import sys

from tests.contract.scripted.settings import Settings
from triptych import lifecycle, settings

if __name__ == "__main__":
    sys.exit(lifecycle.run("tests.contract.interop", settings.load(Settings)))
