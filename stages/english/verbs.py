"""Verbs of things done by hand, in all their forms: cooking, crafts, repair, building, gardens, care."""

from __future__ import annotations

from collections.abc import Iterator

_BY_HAND = """
    absorb add adjust aerate align anchor apply arrange assemble attach bake balance bandage barbecue
    baste batter beat bend bind blanch blanche blast bleed blend blot blow blowdry boil bolt bond bone
    braid braise bread break brine bring broil brown brush buff build bundle burn butter butterfly
    button calibrate caramelise caramelize carry carve cast catch chain char charge check chill chisel
    chop chuck clamp clean clear clip close coat coil collect color colour comb combine compress
    condition connect construct cook cool copy core cover crack cream crease crimp crisp crochet cross
    crumble crunch crush cube cultivate curl cut dab dampen deadhead debone decorate deglaze defrost
    dehydrate detach detangle dice dig dilute dip disassemble discard disconnect dismantle dissolve
    distribute divide double drag drain drape draw dredge dress drill drip drive drizzle drop dry dump
    dunk dust dye edge elevate embroider empty engrave even evaporate exfoliate expand extend extract
    fasten feed fertilise fertilize file fill fillet filter find finish fit fix flare flatten flavour
    flavor flip float flour fluff flush fold form frame freeze frost fry fuse garnish gather get give
    glaze glue grab grasp grate grease grill grind grip groom grout guide hammer hand hang harvest heat
    hem hoist hold hook hose incorporate inflate infuse ink insert inspect install insulate interlock
    iron jack join juice julienne keep knead knit knock knot label lace ladle lather lay layer leave
    level lift light line link liquidise load lock loop loosen lower lubricate macerate make marinade
    marinate mark mash mask massage measure melt mend microwave mince mist mix moisten moisturise
    moisturize mop mortar mould mold mount move mow mulch muddle nail notch oil open overlap pack pad
    paint pan pare paste pat peel pick pierce pin pinch pipe pit place plait plane plant plaster plate
    pleat pluck plug plunge poach point poke polish pop position pound pour precook preheat prepare prep
    press prick prime prop prune puff pull pulse pump punch puree purl push put quarter quilt rack rake
    raise reach reassemble reattach reconnect reduce refill refit refrigerate reheat reinforce reinstall
    release remove render repair repeat replace replant reposition repot rest rethread retighten reverse
    revolve ribbon rinse rip roast roll rotate rub ruffle run salt sand saute sautee sauté saw scald
    score scoop scorch scour scramble scrape scratch screw scrub sculpt seal sear season seat secure
    separate serve set sew shake shampoo shape sharpen shave shear shift shovel shred shut sieve sift
    simmer skewer skim skin slather slice slide slip slit slot smash smear smoke smooth smother snap
    snip soak soap soften solder sort sow space spackle spatchcock split sponge spoon spray spread
    sprinkle sprout squash squeeze squirt stab stack staple steam steep steer stencil stick stir stitch
    store straighten strain strap stretch string strip stuff submerge suck swab swap sweep sweeten swirl
    swish switch tack take tap tape taste tear tease temper tenderise tenderize test thaw thicken thin
    thread throw tie tighten tile tilt tin tip toast top toss touch trace transfer transplant tread trim
    trowel truss tuck tune turn twirl twist unbolt unbutton unclip uncoil uncover undo unfold unhook
    unlock unplug unroll unscrew untangle unwind unwrap use vacuum varnish wait warm wash water wax
    weave wedge weed weigh weld wet whip whisk whittle wick widen wiggle wind wipe wire work wrap wring
    yarn zest zip
"""
_SEVERAL = "blow-dry deep-fry dry-fry hand-wash pan-fry pre-heat re-attach re-insert stir-fry".split()
# Base form, past and participle; also where the past is the base form.
_IRREGULAR = """
    beat beat beaten, bend bent bent, bind bound bound, bleed bled bled, blow blew blown,
    break broke broken,
    bring brought brought, build built built, cast cast cast, catch caught caught, cut cut cut, dig dug dug,
    draw drew drawn, drive drove driven, feed fed fed, fit fit fit, freeze froze frozen, get got gotten,
    grind ground ground, hang hung hung, hold held held, keep kept kept, knit knit knit, lay laid laid,
    leave left left, light lit lit, make made made, put put put, run ran run, saw sawed sawn, set set set,
    sew sewed sewn, shake shook shaken, shear sheared shorn, shut shut shut, slide slid slid,
    slit slit slit,
    sow sowed sown, split split split, spread spread spread, stick stuck stuck, string strung strung,
    sweep swept swept, take took taken, tear tore torn, throw threw thrown, undo undid undone,
    unwind unwound unwound, weave wove woven, wet wet wet, wind wound wound, wring wrung wrung
"""
NOUNS_TOO = frozenset(
    """
    barbecue batter blast bolt bone bread butter button catch chain char check chisel clamp clip coat
    coil color colour comb condition copy core cover cream crisp cross cube cut dip double dress drill
    drip drive drop dust dye edge even file fillet filter finish fit fix flare flour frame frost garnish
    glaze glue grease grill grip groom grout guide hammer hand heat hem hook hose ink iron jack juice
    knot label lace ladle layer level lift light line link load lock loop marinade mark mask mince mist
    mix mold mop mortar mould mount move mulch nail notch oil pack pad paint pan paste pin pinch pipe
    pit place plane plant plaster plate pleat plug point polish pop position pound prime prop puff pulse
    pump punch puree purl quarter quilt rack rake reach rest ribbon rip roast roll run salt sand saw
    scoop score scratch screw seal season seat set shampoo shape shave shift shovel skin slice slide
    slip slit slot smoke snap soap space split sponge spoon spray spread sprout squash stack staple
    steam stencil stick stitch store strap string strip switch tack tape tap tear test thread tie tile
    tin tip toast top touch trace tread trowel tune turn twist use wait wash water wax wedge weed weld
    wick wind wire wrap yarn zest zip
    """.split()
)
"""Base forms that name a thing as readily: salt, oil, a screw."""


def _forms(base: str) -> Iterator[str]:
    """Return the regular forms of a verb: with -s, -ed and -ing."""
    yield base + ("es" if base.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")
    stem = base
    if base.endswith("y") and base[-2] not in "aeou":
        yield base[:-1] + "ies"
        yield base[:-1] + "ied"
    elif base.endswith("e"):
        yield base + "d"
        stem = base[:-1]
    else:
        yield base + "ed"
    yield stem + "ing"
    # One short vowel and one consonant at the end: chopping, knitted, unplugging.
    if len(base) > 2 and base[-1] not in "aeiouwxyé" and base[-2] in "aeiou" and base[-3] not in "aeio":
        yield base + base[-1] + "ed"
        yield base + base[-1] + "ing"


BASES = frozenset((*_BY_HAND.split(), *_SEVERAL))
"""Verbs in the plain form."""
_PAST = {
    form: base
    for base, *past in (verb.split() for verb in _IRREGULAR.replace("\n", " ").split(","))
    for form in past
}
BASE_OF = {form: base for base in sorted(BASES) for form in _forms(base)} | _PAST
BASE_OF |= {base: base for base in BASES}
"""The plain form by any form."""
PARTICIPLES = frozenset(form for form in BASE_OF if form.endswith("ed") and form not in BASES) | set(_PAST)
"""Forms after ``is`` and ``are``; the past of an irregular verb is among them."""
