import pytest

from aioresilience.cli.documenting import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says(name):
    page = (DOCS / name).read_text(encoding="utf-8")
    assert page == PAGES[name](page), "run: make pages"
