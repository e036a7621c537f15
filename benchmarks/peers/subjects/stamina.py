"""stamina."""

import stamina


def subjects(bare):
    return {"retry": stamina.retry(on=Exception, attempts=3)(bare)}
