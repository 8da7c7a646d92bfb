"""Runs the notebooks as Kaggle kernels: builds, pushes, watches and fetches them, without a browser.

A kernel is a notebook that runs on Kaggle's machines. It reads the outputs of other kernels and leaves an output of
its own. This room turns `kaggle-metadata.json` into kernels and talks to Kaggle. It knows the names of the stages, and
it imports no package that computes: pushing needs only this package and Kaggle's client.

    build     manifest -> delivery, requirements, cells -> kernels, checked by rules and accelerators
    push      chain: look (history, decide) -> push -> wait (waiting) -> judge the end (judge) -> again, or the next
    others    overview: status    fetch: download the outputs    packs: a public dataset
    calls/    talks to Kaggle, and checks its answers; documents checks the JSON files that sessions wrote
    session/  the code that runs on Kaggle's machine, before and after the notebook
"""
