"""Function words in ten languages: copulas, articles, prepositions, and words that begin a clause."""

COPULAS = frozenset(
    (
        "it's that's he's she's there's c'est c’est it’s that’s is was are were be been being isn't wasn't 's becomes "
        "became remains means es fue era son está ser est était sont fut ist war sind heißt lautet wurde é foi è fu "
        "это является был была было są jest är var stato stata stati state été sido gewesen seien"
    ).split()
)
ARTICLES = frozenset(
    (
        "the a an el la los las un una le les l l' der die das den dem des ein eine einen einem os o as um uma il lo "
        "gli i uno het een"
    ).split()
)
PRONOUNS = frozenset(
    (
        "ich je j'ai yo eu io я wir nous it he she they this that these those his her its their there i you we es er "
        "sie c'est c ce él ella ele ela il elle он она оно это"
    ).split()
)
PREPOSITIONS = frozenset(
    (
        "of in on at for with from to into through by during after before between under over near about around since "
        "until as against among across behind inside outside within without de del di da do du des dal dalla della "
        "dello à au aux en em na no nos nas dans sur pour par por con com mit von vom zu zum zur im am auf für durch "
        "bei nach в во на из от для с со по к у о об van bij met"
    ).split()
)
BOUNDARIES = frozenset(
    (
        "that which who whom whose where when while because although though but and or so however if than then also y "
        "e et und que qui quien der où donde wo mais aber pero и или но которая который"
    ).split()
)
OTHERS = frozenset(
    (
        "not no yes none other than only just more most very actually currently generally commonly often usually "
        "typically known called named located situated officially originally famous approximately roughly exactly "
        "some any all both each first last has have had do does did will would can could may might must shall there "
        "here what which who when where why how whom answer correct question based according sure certainly well ok "
        "okay great however therefore thus hence indeed here's also one nicht niet inte ikke não pas ne не değil "
        "rather unlike neither contrary instead surprisingly selon cependant toutefois ensuite après según embargo "
        "laut jedoch aber dans pour ses son sa leur leurs actuellement en keine kein каждая каждый каждое все этот "
        "эта эти sí si oui non ja nein нет да as per my knowledge"
    ).split()
)
ENGLISH_FUNCTION = frozenset(
    (
        "a an the it he she they this that these those his her its their there i you we is was are were be been of in "
        "on at for with from to into by during after before as and or but not no yes none other than only what which "
        "who when where how some any all both each first last has have had do does did will would can could may might "
        "must here also one"
    ).split()
)
FUNCTION = COPULAS | ARTICLES | PRONOUNS | PREPOSITIONS | BOUNDARIES | OTHERS

BY = frozenset("by por par von durch door da dal dalla dallo pelo pela av af".split())
"""Prepositions that introduce the agent of a passive."""
INDEFINITE = frozenset("a an un una une ein eine einen um uma uno".split())
"""Indefinite articles."""
IT_IS = frozenset("it's that's c'est it’s that’s c’est".split())
"""Contractions of a pronoun and a copula."""
EMPTY_NOUNS = frozenset("example testament mystery marvel concept term".split())
"""Nouns that do not indicate what was asked: "a classic example of …"."""
