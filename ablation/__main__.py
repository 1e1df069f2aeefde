"""`python -m ablation`: the same as the console script."""

from ablation.cli.main import main

if __name__ == "__main__":
    main()
