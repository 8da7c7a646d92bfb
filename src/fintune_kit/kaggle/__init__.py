"""The four notebooks as Kaggle kernels: built here, pushed, watched and fetched, without a browser.

A kernel is a notebook that runs on Kaggle's machines. It reads the outputs of other kernels and leaves an output of
its own. This room turns `kaggle-metadata.json` into kernels and talks to Kaggle. It knows the names of the stages, and
it imports nothing that computes: pushing needs this package, Kaggle's client, and no more.

    at home
        manifest   kaggle-metadata.json, read and checked
        delivery   how the library gets into a kernel
        cells      the generated first and last cell
        kernels    the build folders; `rules` checks them
        client     every call to Kaggle; `replies` reads its answers
        chain      push, wait, go on
        overview   status
        fetch      outputs brought home
    on Kaggle's machine
        session/   packages, inputs, the card and the size of the output
"""
