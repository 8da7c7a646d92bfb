"""Stage 4 asks the base and the adapter the same questions and scores their answers.

conversations/, packed/, adapter/  ->  stage  ->  evaluation/

sets/         sources of questions: validation conversations, files, benchmarks, general knowledge
trees, scoring, generation            answers: likelihood of options, or free text
judging, metrics, floors, records     from answers to scores
ask           one question of the user, with both answers side by side
"""
