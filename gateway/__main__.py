"""``python -m gateway`` is the same program as ``scoring-gateway``."""

from gateway.cli import main

if __name__ == "__main__":
    main()
