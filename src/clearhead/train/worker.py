"""python -m clearhead.train.worker RUN: a further process of the run in that folder; started by train/workers.py."""

import sys
from pathlib import Path

from clearhead.core.allocator import keep_free_pages
from clearhead.core.recipe import read_recipe
from clearhead.train.recipe import Recipe
from clearhead.train.run import take_part

if __name__ == "__main__":
    keep_free_pages()
    folder = Path(sys.argv[1])
    take_part(read_recipe(folder / "recipe.yaml", [], Recipe), folder)
