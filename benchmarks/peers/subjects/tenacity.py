"""tenacity."""

from tenacity import retry, stop_after_attempt


def subjects(bare):
    return {"retry": retry(stop=stop_after_attempt(3))(bare)}
