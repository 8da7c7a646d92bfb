from fintune_kit.tpu.step import too_large

SAID = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (29.78G) exceeds "
    "available HBM (15.75G)."
)
"""libtpu 0.0.42.1 of the 3B with nothing recomputed."""


def test_a_step_that_does_not_fit_a_device_is_refused_with_what_it_would_take():
    assert str(too_large(SAID)) == (
        "a step would take more than 29.78 GiB of a device; expected at most its 15.75 GiB: take a smaller model "
        "(FINTUNE_MODEL) or shorter packs"
    )


def test_what_else_the_compiler_says_is_not_explained_away():
    assert too_large("INTERNAL: Mosaic failed to compile TPU kernel") is None
