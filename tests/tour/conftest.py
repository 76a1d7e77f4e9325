import keras
import pytest

import tour_scripts  # noqa: F401  puts tour/ on the path


@pytest.fixture(autouse=True)
def float32():
    """Keras's own policy for each test, whatever a script or a fixture has set."""
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
