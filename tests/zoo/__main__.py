"""`python -m tests.zoo judge`, which loads no torch, and the commands of `tests.zoo.command`, which do."""

import sys

if sys.argv[1:2] == ["judge"]:
    from tests.zoo.rejudge import main
else:
    from tests.zoo.command import main

if __name__ == "__main__":
    main()
