"""The four notebooks as Kaggle kernels: built here, pushed, watched and fetched, without a browser.

A kernel is a notebook that runs on Kaggle's machines. It reads the outputs of other kernels and leaves an output of
its own. This room turns `kaggle-metadata.json` into kernels and talks to Kaggle. It knows the names of the stages, and
it imports nothing that computes: pushing needs this package, Kaggle's client, and no more.

    build     manifest -> delivery, requirements, cells -> kernels, checked by rules and accelerators
    talk      client: every call goes through the door; replies, documents and download judge what comes back
    push      chain: look (history, decide) -> push -> wait (waiting) -> judge the end (judge) -> again, or the next
    others    overview: status    fetch: outputs brought home    packs: a public dataset
    session/  what runs on Kaggle's machine, before and after the notebook
"""
