"""Read the content of a text: the names, numbers, dates and refusals in it, and what it asserts as its answer.

No function of this package receives a verdict.

Each module imports only modules that are listed above it and modules of lower-level packages.

::

    asserted      what a text asserts as its answer, and where the model's own answer ends
    folding       text folded for comparison: without case, accents and markup, divided into words
    sentences     sentences of a text, corrections and concessions
    stance        how a text mentions something: asserted, negated, compared, listed, in doubt or withdrawn
    refusal       texts that decline to answer
    units         units of numbers
    number_words  numbers in words of languages other than English
    numbers       numbers in digits and in words
    dates         dates
    grammar       function words in ten languages
    asked         the kind of answer that a question asks for
    clauses       which of several mentions a text means
    off_topic     texts that contain no answer of the kind that the question asks for
    tokens        words of a question and of the texts that answer it
    candidates    names and quoted parts that could be an answer
    values        dates and numbers that could be an answer
    uncased       what a text in a script without capital letters adds to its question
    statements    the statements of a text
    added_names   the names that a statement adds to its question
    added         what a statement adds to its question
    described     the kind of thing that a statement assigns to its subject
    continued     the answer that continues the words of the question
    places        the place of a candidate in its statement
    answerless    texts that only describe, plan or ask, and contain no answer
    whole         texts that consist of their answer
    names         names, found by their words
    alternatives  answers that a question offers, and mentions beside other answers
    persons       names of persons with abbreviated given names
    yes_no        answers to yes/no questions
    closed_set    which name of a closed set a text asserts
    choices       which of the lettered choices a text asserts
    results       which number a text states as its answer
    resemblance   texts that resemble an accepted answer
    accepted      accepted answers as values, and where a text mentions them
"""
