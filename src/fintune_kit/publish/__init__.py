"""Publishes an adapter: the model card, a merged model, GGUF files, and the upload.

adapter/, run/, packed/, conversations/, evaluation/  ->  model_card  ->  README.md
base + adapter/                                       ->  export      ->  one model, safetensors or GGUF
a finished folder                                     ->  push        ->  the hub, only on request
"""
