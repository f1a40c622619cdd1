"""Phrases of greeting, advertising, announcing and chatter, whatever the topic: closed lists of English."""

from __future__ import annotations

import re


def _phrases(lines: str) -> re.Pattern[str]:
    """Compile alternatives, one or more a line; a backslash continues a line."""
    joined = re.sub(r"\\\n\s*", "", lines)
    return re.compile("|".join(filter(None, map(str.strip, joined.splitlines()))))


SPONSOR = _phrases(r"""
    \bsponsor|\baffiliate|\bpatreon\b|\betsy\b|\bmerch\b|\bwww\b|\bdot com\b|[a-z]\.com\b
    \b(?:promo|discount|coupon|referral) code\b|\b(?:use|enter|type in|with) (?:my |the |our )?code\b
    \b(?:\d+|five|ten|fifteen|twenty|thirty|forty|fifty) (?:percent|%) off\b|\d% off\b
    \bpartner(?:ed|ing|ship)? with\b|\bpaid promotion\b|\bbrought to you by\b
    \b(?:sent|send|gifted) (?:me|us) (?:this|these|the|a|an|some)\b
    \b(?:free|exclusive) (?:trial|shipping|delivery|gift|sample)
    \b(?:box|month|order|week|bottle) (?:for )?free\b
    \bon amazon\b|\bfor sale\b|\bin stores\b|\bcheckout\b|\b(?:order|buy) (?:now|yours|today)\b|\
        \bsign up\b
    \bweb ?sites?\b|\b(?:pre-?order|giveaway|newsletter)
    \b(?:my|our|the) (?:cookbook|new book|app|online (?:store|shop|course))\b(?! to\b)
    \b(?:visit|(?:head )?over (?:to|at)|go to|check out|find \w+ (?:at|on)) (?:my|our|their) (?:store|\
        shop|site)\b
    \blinks? (?:is |are |will be |right |down |just )*(?:in|below|down|to|for)\b
    \bclick (?:on )?(?:the|that|this|my|our) links?\b|\bdescription (?:box|below)|\bin the description\b
    (?:\bdot |\.)(?:com|net|org|io|tv)\b|\bemail address\b|\bspecial offer|\blimited time\b
    \b(?:discounts?|coupons?|vouchers?|e-?books?|subscriptions?|memberships?|gift cards?|toll[- ]free)\b
    \b(?:absolutely|completely|totally|months?|weeks?|access) free\b|\bmoney[- ]back\b
    \b(?:get|grab|claim|download|receive|try) (?:my |our |your )?free\b(?! (?:end|edge|hand|arm|loop))
    \bfree (?:\w+ )?(?:download|pdf|printable|guide|webinar|lessons?|class|course|plans?|trial|access|\
        membership|pattern)\b
    \b(?:get|grab|claim|reserve|buy|order|pick up|find|try) (?:yours|your (?:own|copy)|one for yourself)\b
    \b(?:buy|order|purchase|shop) (?:it |them |one |some |this |these )?(?:now|today|online|here|\
        directly)\b
    \b(?:join|become a member of|support|check out) (?:my|our) (?:\w+ ){0,2}(?:club|community|group|\
        membership|team|course|class|list|program|challenge|store|shop|blog|podcast|page)\b
    \bbecome a (?:\w+ )?(?:member|patron|subscriber)\b|\bjoin (?:now|today|for free)\b
    \b(?:your|shopping) cart\b|\bfor free\b|\bwith (?:this|our|their) app\b|\bdownload (?:the|our|\
        my|this) \
        (?:\w+ )?app\b
    \b(?:mail|email|ship|send) (?:it |them )?(?:to )?you\b|\b(?:half|full) price\b|\bon sale\b
    \bmy (?:new )?(?:e-?book|course|masterclass|blog|podcast|line of)\b|\bour line of\b
    \bavailable (?:now|online|for (?:purchase|order|download))\b|\bsold (?:online|separately)\b
    \b(?:great|good|best|amazing|huge) (?:deals?|savings)\b|\b(?:save|saving) (?:big|up to)\b
    \b(?:make|makes|made|helping) (?:this|these) (?:videos?|channel|episode) possible\b
    ^(?:and |go )*shop (?:our|my|the|now|at|with|for|online)\b
""")
GREETING = _phrases(r"""
    \bsubscrib(?:e|ed|er|ers|ing)\b|\bthumbs?[ -]?up\b|\bbig thumbs?\b|\bgive (?:a |up a |it a )?thumbs?\b
    \b(?:like|notification|subscription) (?:button|bell)\b|\bthe bell(?: icon| button)?$
    \bring (?:the|that) (?:\w+ )?bell\b|\b(?:my|our|this|youtube|your) channels?\b
    \b(?:to|on|support|from) the channel\b|\b(?:thanks|thank you|thank y'all)\b
    \b(?:hit|smash|press|click) (?:the |that )?(?:like|follow)\b
    \b(?:give|drop|leave) (?:this video |it |us |me )?a like\b|\b(?:rate|like) comment\b
    \b(?:in|down in|to) the comments?\b|\bcomments? (?:below|section|down)\b
    \b(?:leave|drop|post|write) (?:me |us )?(?:a|your|any|some) (?:comments?|questions?)\b
    \bfollow (?:me|us)\b|\b(?:facebook|instagram|twitter|tiktok|pinterest|snapchat|youtube)\b
    \bsocials\b|\bsocial media\b|\bshare (?:it|this|the|our|my) ?(?:video|recipe)?s?(?: with|$)
    \b(?:see|catch|meet) (?:you|ya|y'all)(?: guys| all| again)*$
    \b(?:see|catch|meet) (?:you|ya|y'all)(?: guys| all| again)* (?:next|soon|later|then|tomorrow|again)\b
    \b(?:see|catch|meet) (?:you|ya|y'all)(?: guys| all| again)* in (?:the|(?:my|our|another) next)\b
    \b(?:until|till) (?:next time|then$)|\bwelcome (?:back|to|everyone|everybody|friends|guys)\b|\
        ^welcome\b
    \bmy name(?: is|'s)\b|\b(?:bye|goodbye|bye-bye|good night|see ya|peace out|take care)\b
    \bhave (?:a|an) (?:great|good|nice|wonderful|lovely|blessed|fantastic|beautiful|awesome) (?:day|one|\
        rest)\b
    \bhave (?:a|an) (?:great|good|nice|wonderful|lovely|blessed|awesome) (?:night|week|weekend|evening|\
        time)\b
    \bgood (?:morning|evening|afternoon|day|to see you)\b|\bhow are you\b|\bhow's it going\b|\bwhat's up\b
    \bmerry christmas\b|\bhappy (?:holidays|new year|thanksgiving|easter|birthday|[a-z]+ing)\b
    \b(?:watch|watching|enjoy|enjoyed|like|liked|share|upload|post|film|\
        see) (?:[a-z']+ ){1,3}(?:videos?|vlogs?)\b
    \b(?:watch|enjoy|enjoyed|like|share|check out) (?:[a-z']+ ){1,3}(?:videos?|episodes?|tutorials?)\b
    \b(?:next|previous|other|another|future) (?:videos?|vlogs?|episodes?|tutorials?)\b
    \b(?:hit|ring|tap|click|press|turn on|enable) (?:the|that|those|your|all|\
        my) (?:\w+ )?(?:bell(?= icon| button| so| for| to| and|$)|\
        notifications?)\b
    \b(?:pause|rewind|replay|skip|fast[- ]forward) (?:the|this|that|my) (?:video|clip|tape)\b
    \bscreenshot\b|\b(?:send|show) (?:it|this|that) to (?:a|your|all your) (?:friends?|family)\b
    \b(?:good to|glad to|nice to|happy to|great to) (?:see|have|meet) (?:you|y'all)\b
    \bjoining (?:me|us)\b|\bgod bless\b|\bstay safe\b|\bwithout further ado\b|\byou're watching\b
    \b(?:happy|merry) (?:[a-z]+ing|[a-z]+mas|[a-z]+day)\b|\blove (?:you|y'all)(?: guys| all)*$
    \b(?:let's|let us|we'll|we can) (?:just |go ahead and )?(?:get|jump) (?:started|right in|into it|\
        right into it)\b
    \b(?:playlist|end ?screen|live ?stream|vlog)s?\b|\b(?:card|link|video) (?:right )?up here\b
""")
HELLO = re.compile(r"^(?:(?:well|so|okay|alright|oh) )*(?:hi|hey|hello|howdy|greetings|yo|namaste|hola)\b")
ANNOUNCED = _phrases(r"""
    \b(?:show|teach|tell|learn|explain)(?:ing)?(?: (?:you|ya|y'all|to|guys|everyone|all|us|\
        people))* (?:how|why|what|where|when)\b
    \b(?:show|teach|tell|shar|learn)(?:e|ed|ing)?(?: (?:you|y'all|with|guys|everyone|us|people))* (?:my|\
        the way|one way)\b
    \bhow (?:to|i|we|you|it's) [a-z]+\b|\btalk(?:ing)? (?:to you )?about\b
    \b(?:today|in this (?:video|episode|tutorial|lesson|recipe|one)|in today's|this week|\
        on today's)\b.{0,40}?\b(?:mak|do|cook|bak|build|fix|repair|creat|prepar|replac|install|knit|\
        crochet|sew|go|talk|look|try)(?:e|ing|t?ting)?\b(?! (?:up|sure|the (?:first|next)))
    \b(?:mak(?:e|ing)|do|doing|cook(?:ing)?|bak(?:e|ing)|build(?:ing)?) .{0,40}\b(?:today|\
        for you(?: guys)?|with you(?: guys)?|in this video)$
    \b(?:will|'ll|gonna|going to|to) (?:be )?(?:learn|discuss|explor|demonstrat)(?:e|ing)?\b
    \b(?:episode|part|video|lesson) (?:\d+|one|two|three|four|five|six) of\b
""")
CHATTER = _phrases(r"""
    \b(?:take|have|taking|having) (?:a )?(?:closer |quick |good |little )*look\b(?! under)
    \b(?:get|getting) (?:a (?:little |bit )*)?(?:started|going|closer|into it|to it|right into|excited|\
        ready)\b
    \bgive (?:it|this|that|these|them|her) a (?:try|go|shot|chance|taste)\b
    \btake (?:a|some|my|the|more)? ?(?:picture|photo|pic|selfie|shot|video|break|sip|bite|guess)s?\b
    \bmak(?:e|es|ing) (?:some |more |no |any |a lot of |such )*(?:sense|money|videos?|friends|me|you|\
        people)\b
    \bmak(?:e|es|ing) a (?:\w+ )?(?:video|difference)\b
    \b(?:save|saves|saving|spend|cost|waste|earn) (?:you |me |some |a lot of |so much |your |\
        lots of )*(?:money|time)\b
    \b(?:bear|stick|stay|hang) (?:with me|tuned|around|in there)\b|\bkeep (?:watching|in mind|in touch|\
        track)\b
    \btake (?:my|your|a|the)? ?(?:word|time|note|advantage|effort)\b|\btime to eat\b|\b(?:run|\
        take) the risk\b
    \bused to (?:make|do|cook|have|be|eat|go|watch|work|use|play|bake)\b
    \b(?:growing up|when i was|years ago|yesterday|last (?:week|year|month|night|summer|time)|\
        back in the day)\b
    \b(?:every|each) (?:sunday|saturday|monday|week|weekend|year|christmas|summer|day of)\b
    \b(?:i've|we've|i have|we have) been (?:doing|making|cooking|using|working|playing|wanting|trying)\b
    \b(?:let me|let us) (?:know|tell|explain|see|think)\b|\bmoving (?:on$|right along)|\bto be honest\b
    \b(?:i|we) (?:got|bought|picked up|found|ordered) (?:this|these|it|them|mine|that|\
        those) .{0,30}?(?:from|at|on|off)\b
    \b(?:goes|go|going) (?:to show|on and on|without saying)\b|\b(?:my|a) favou?rite\b
    \b(?:would|could|should|might|must)(?:'ve| have|n't have)\b
    \b(?:the (?:first|last|only) time|one time|the day|back when) (?:i|we|he|she|my)\b|\b(?:i|we) ever\b
    \bthe other (?:day|night|week)\b|\bas a (?:kid|child|boy|girl|student)\b|\bback then\b|\bin college\b
    \bwhen (?:i|we) (?:were|was|lived|started|got married|moved)\b|\bsince (?:i|we) (?:was|were)\b
    \b(?:years old|my whole life|in the (?:nineties|eighties|seventies|sixties|fifties)|generations)\b
    \bevery (?:other time|time (?:i|we))\b|^(?:that |where )?(?:they would|they'd|people) (?!are|is|\
        let)[a-z]
    \b(?:most|many|other|some|a lot of|lots of) (?:people|folks|cooks|chefs|recipes|restaurants|brands|\
        places|guys)\b
    ^(?:the |these |and )*(?:restaurants?|stores|companies|manufacturers|scientists|doctors|experts)\b
    \b(?:mom|mum|mother|dad|father|grandma|grandmother|grandpa|grandfather|nana|husband|wife|kids|\
        children|son|daughter|sister|brother|aunt|uncle|friends?|neighbou?r) (?:always |never |\
        really |just |absolutely )*(?:would|used to|won't|doesn't|don't|didn't|loves?|hates?|wants?|\
        likes?|\
        thinks?|calls?|called|begs?|asks?|eats?|ate)\b
    \b(?:\d+|few|couple|couple of|ten|twenty|thirty|forty|fifty|hundred|thousand|five|six|seven|\
        eight|nine|\
        two|three|four|hundreds of) (?:dollars|bucks|cents|euros|quid)\b(?! worth)|[$£€]\d
    \b(?:get|got|grab|buy|buying|bought|pick|picked|find|found|order|ordered|sell|sells|sold|carry|ran|\
        went|came|comes|is|are) .{0,40}?\b(?:at|from|to|in) (?:a|an|any|the|your|my|most) (?:\w+ )\
        {0,3}?(?:stores?|supermarkets?|markets?|shops?|nursery|mall|junkyard|dealer|dealership|bakery)\b
    \bnothing (?:beats|better|like|worse)\b|\bcan't (?:go wrong|beat|stop|believe|wait|get enough)\b
    \b(?<!he )(?:makes|keeps|gives|adds|brings) (?:it|them|everything|things|all|life|your life|such|\
        for|up for) (?:a |an |so |much |very |really |super |the |more |all |nice and )*(?:better|easier|\
        easy|great|good|nice|fun|worth|difference|happy|perfect|special|tender|moist|crispy|crunchy|\
        juicy|soft|flavou?r|flavorful|fresh|strong|simple|faster|quick)\b
    \b(?<!he )(?:brings|gives|adds|draws|has|provides) (?:\w+ ){0,4}?(?:out the )?(?:flavou?rs?|taste|\
        texture|depth|sweetness|moisture|crunch|personality|character|richness|acidity)\b
    \b(?:is|are|was|were|'s) (?:actually |also |just |basically |often |usually |really )*(?:called|known|\
        made (?:of|from|out of)|used for|named|invented|based on|born|full of)\b
    \b(?:is|are|was|were) (?:traditionally|typically|originally|historically) [a-z]+ed\b
    \b(?:cut to the chase|cut corners|break the bank|keep it simple|sit back|have fun|take it easy|\
        take (?:it|that) from me|roll with it|hang of it|make (?:a )?mistakes?|drive (?:me|you) crazy|\
        fingers crossed|wait a (?:minute|second)$|hold on$|dig in$|piece of cake)\b
    \blet me (?:just )?(?:move|zoom|tilt|turn|bring|adjust|flip|angle|get|set)\b.{0,25}\b(?:camera|\
        tripod)\b
    \b(?:burn|burned|burnt|cut|hurt|broke|sliced|stabbed|hit) (?:my|his|her) (?:own )?(?:hands?|\
        fingers?|thumb|\
        leg|arm|toe|foot|tongue|mouth|face|back)\b
    ^(?:and |but )*(?:everybody|everyone|nobody|no one|anybody|anyone) (?:\w+ ){0,3}?(?!this|let|\
        is\b)[a-z]+s\b(?!')
    ^(?:and |but |the )*(?!guys|folks|ladies|friends|sometimes|always|this|kids)[a-z]+s \
        (?:don't|won't|never) (?!go|get|need|be)
""")
INTERJECTIONS = frozenset(
    """
    ah aha all alright amazing appetit bon awesome beautiful boom cheers cool correct crazy delicious
    done easy enjoy exactly excellent fantastic fine good gorgeous gosh great ha haha hm hmm huh
    incredible indeed lovely man mhm mm mmm music nice no nope ok okay oh ooh oops ouch perfect please
    playing pretty right really so sorry super sure sweet tada that there ta-da totally true uh uh-huh
    um very voila voilà well whoa woah wonderful wow yay yeah yep yes yum yummy you're worries problem
    go here you we applause laughter luck job way my god simple
    """.split()
)
