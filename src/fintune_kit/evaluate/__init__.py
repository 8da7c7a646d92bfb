"""Stage 4: the base and the adapter answer the same questions, and what they are worth is measured.

conversations/, packed/, adapter/  ->  stage  ->  evaluation/

sets/         where questions come from: validation rows, files, benchmarks, general knowledge
trees, scoring, generation            how a model answers: likelihood of options, or free text
judging, metrics, floors, records     how answers become scores
ask           one question of your own, base and adapter side by side
"""
