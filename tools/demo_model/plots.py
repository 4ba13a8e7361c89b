"""The plots of the stories: a problem and how it is solved, as sentence templates."""

from __future__ import annotations

from dataclasses import dataclass

ONE_DAY = "One (|{weather} )(morning|day|afternoon)"
FRIEND_CAME = "(Just then|Soon|After a while), {friend} the {kin} (came by|walked by|came along). "


@dataclass(frozen=True)
class Plot:
    name: str
    about: str  # completes "a story about a fox ..."
    beats: tuple[str, ...]
    lessons: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    opening_trait: bool = True  # the opening may give the hero a trait and a hobby
    at_night: bool = False
    new_friends: bool = True  # hero and friend meet in this story


PLOTS = (
    Plot(
        "lost thing",
        "who lost {his} {color} {thing}",
        (
            ONE_DAY + ", {hero} could not find {his} {color} {thing}. "
            "(|It was {his} favorite thing(| in the whole world). )"
            "{He} looked {spot}, but it was not there. {He} looked {spot2}, but it was not there either.",
            "{hero} (was|felt) (very |so |)sad and (began|started) to cry. "
            + FRIEND_CAME
            + '"(What is wrong|Why are you so sad|Why are you crying)?" asked {friend}. '
            '"I lost my {color} {thing}," said {hero}.',
            '"Do not (worry|cry)," said {friend}. "(I will help you look for it|We will find it together)." '
            "They looked (everywhere|here and there). (At last|Then|Suddenly), {friend} saw something {color} {spot3}. "
            "It was the {thing}!",
            '{hero} (hugged {friend}|jumped for joy|laughed and danced). "Thank you(| so much), {friend}!" {he} said. '
            "(|They played together until the sun went down.)",
        ),
        (
            "{hero} learned that it is good to ask for help.",
            "{hero} learned that a good friend is better than any {thing}.",
        ),
        (
            ("What did {hero} lose?", "{hero} lost {a_thing}."),
            ("Who found the {thing}?", "{friend} the {kin} found the {thing}."),
            ("Where was the {thing}?", "The {thing} was {spot3}."),
            ("What color was the {thing}?", "The {thing} was {color}."),
        ),
    ),
    Plot(
        "deep hole",
        "who fell into a hole",
        (
            ONE_DAY + ", {hero} took a walk {far_to}. {He} did not look where {he} was going and fell into a "
            "(deep|big|dark) hole. (Bump! |Ouch! |){He} tried to (climb|jump) out, but the hole was too deep.",
            '"Help! (Help!|Can anyone hear me?)" {he} (called|shouted). '
            "{friend} the {kin} heard {him} and (ran|hurried) to the hole.",
            '"(Hold on|Do not be afraid|I will help you)!" said {friend}. {friend.He} found a long {tool} and held it '
            "down to {hero}. {hero} held on (tight|with all {his} might), and {friend} pulled and pulled. "
            "(At last, {hero} was out of the hole!|Up and up {he} came, and soon {hero} was safe!)",
            '"Thank you for helping me," said {hero}. "That is what friends are for," said {friend}. '
            "(|{hero} had {a_food} in {his} bag, and they shared it.)",
        ),
        ("{hero} learned to look where {he} was going.", "After that, {hero} always looked where {he} was going."),
        (
            ("What did {hero} fall into?", "{hero} fell into a hole."),
            ("Who helped {hero}?", "{friend} the {kin} helped {hero}."),
            ("What did {friend} find?", "{friend} found a long {tool}."),
        ),
    ),
    Plot(
        "storm",
        "who was caught in the rain",
        (
            ONE_DAY + ", {hero} went {far_to} to (pick berries|play|look for pretty stones). "
            "(Suddenly|Soon), the sky (grew|turned|became) dark and it began to rain. "
            "(|The wind blew and blew. |There was loud thunder. )"
            "{hero} was (cold and wet|wet from head to toe) and did not know where to go.",
            "Then {he} saw a (small|little) house with a light in the window. {He} knocked on the door. "
            '{friend} the {kin} opened it. "(Oh dear|Oh my), you are (so |)wet!" said {friend}. '
            '"(Come in|Please come in) and sit by the fire."',
            "{friend} gave {hero} {a_color} blanket and some (hot|warm) {drink}. "
            "(They told stories and laughed while the rain fell|They sat by the fire and listened to the rain).",
            'When the rain stopped, {hero} said, "Thank you. You are very kind." '
            "(|The next day, {hero} came back with {a_food} for {friend}.)",
        ),
        ("{hero} learned that a kind friend is like the sun on a rainy day.", "A kind heart is warmer than any fire."),
        (
            ("Why was {hero} wet?", "{hero} was wet because it began to rain."),
            ("Who opened the door?", "{friend} the {kin} opened the door."),
            ("What did {friend} give {hero}?", "{friend} gave {hero} {a_color} blanket and some {drink}."),
        ),
    ),
    Plot(
        "sharing",
        "who learned to share",
        (
            ONE_DAY + ", {hero} had {a_food} for lunch. It (looked|smelled) (so|very) good. "
            "{He} wanted to eat it all (alone|by {himself}).",
            'Then {friend} the {kin} came by. "I am so hungry," said {friend}. '
            '"I have (nothing to eat|not eaten all day)."',
            "{hero} looked at the {food} and then at {friend}. "
            "(At first, {he} did not want to share. But {friend} looked so sad.|{He} thought for a moment.) "
            '"(Here, take half|You can have half|We can share it)," said {hero}. '
            "{He} (cut|broke) the {food} in two, and they ate together.",
            '"(This is the best {food} ever|It tastes even better with a friend)!" said {friend}. '
            'The next day, {friend} came back with some {snack}. "This is for you," {friend.he} said.',
        ),
        (
            "{hero} learned that sharing makes everyone happy.",
            "{hero} learned that food tastes better when you share it.",
        ),
        (
            ("What did {hero} share?", "{hero} shared {a_food}."),
            ("Who was hungry?", "{friend} the {kin} was hungry."),
            ("What did {friend} bring the next day?", "{friend} brought some {snack}."),
        ),
    ),
    Plot(
        "shy hero",
        "who was shy and found a friend",
        (
            "{hero} was (very |)shy and had no friends. Every day, {he} sat alone and watched the other animals play. "
            "{He} wanted to play too, but {he} (was afraid to ask|did not know what to say).",
            ONE_DAY + ", {friend} the {kin} dropped {friend.his} {color} ball, and it rolled to {hero}. "
            '{hero} (picked it up|took the ball) and brought it back. "Here is your ball," {he} said '
            "(in a small voice|softly|quietly).",
            '"Thank you!" said {friend}. "Do you want to play with (me|us)?" {hero} smiled a big smile. '
            '"Yes, please!" {he} said.',
            "They threw the ball (back and forth|high into the air) and laughed all day. "
            "After that, {hero} was not shy any more.",
        ),
        ("{hero} learned that one kind word can make a new friend.", "{hero} learned that it is easy to say hello."),
        (
            ("What color was the ball?", "The ball was {color}."),
            ("Why did {hero} have no friends?", "{hero} had no friends because {he} was shy."),
            ("Who dropped the ball?", "{friend} the {kin} dropped the ball."),
        ),
        opening_trait=False,
    ),
    Plot(
        "noise at night",
        "who was afraid of the dark",
        (
            "One (dark|windy|quiet|cold) night, {hero} lay in bed and could not sleep. "
            "(Suddenly|Then) {he} heard a (strange|funny|loud) noise. (Tap, tap, tap!|Scratch, scratch!|Bump, bump!)",
            '{hero} was (scared|afraid). "(Is it a monster|What is that|Who is there)?" {he} whispered. '
            "{He} (pulled the blanket over {his} head|hid under the blanket), but the noise did not stop.",
            "At last, {hero} took a deep breath. {He} took a lamp and opened the door (very |)slowly. "
            'It was only {friend} the {kin}! "I am sorry," said {friend}. "I lost my way in the dark."',
            '"You can (stay|sleep) here tonight," said {hero}. {He} gave {friend} a warm bed and some {drink}. '
            "(They laughed about the noise|They talked for a while), and soon they fell asleep.",
        ),
        ("{hero} was not afraid of the dark any more.", "{hero} learned that the dark is not so scary after all."),
        (
            ("What did {hero} hear?", "{hero} heard a noise."),
            ("Who was at the door?", "{friend} the {kin} was at the door."),
            ("What did {hero} give {friend}?", "{hero} gave {friend} a warm bed and some {drink}."),
        ),
        at_night=True,
    ),
    Plot(
        "broken thing",
        "who broke {friend}'s {fragile}",
        (
            "{hero} had a good friend, {friend} the {kin}. "
            + ONE_DAY
            + ", {hero} was playing with {friend}'s {color} {fragile}. "
            "(Crack!|Oh no!) The {fragile} fell down and broke.",
            "At first, {hero} wanted to hide it. {He} put the {fragile} {spot}. But {he} felt bad (inside|all day). "
            'So {he} went to {friend} and told the truth. "I broke your {fragile}. I am (very |so )sorry," {he} said.',
            "{friend} was sad (at first|for a moment), but then {friend.he} smiled. "
            '"Thank you for telling me," {friend.he} said. "(We can|Let us) fix it together."',
            "They worked (all afternoon|for a long time) with (glue|glue and string|string and paper). "
            "Soon the {fragile} was (as good as new|whole again).",
        ),
        (
            "{hero} learned that it is always best to tell the truth.",
            "{hero} learned that a true friend can forgive.",
        ),
        (
            ("What did {hero} break?", "{hero} broke {friend}'s {fragile}."),
            ("What color was the {fragile}?", "The {fragile} was {color}."),
            ("Where did {hero} put the {fragile}?", "{hero} put the {fragile} {spot}."),
        ),
        new_friends=False,
    ),
    Plot(
        "learning",
        "who wanted to {skill}",
        (
            "(More than anything, |){hero} wanted to learn (how |)to {skill}. "
            "{He} tried once, but it did not work. {He} tried again, but it (still |)did not work.",
            '"I (can not do it|will never learn it)," said {hero} and looked at the ground. {He} felt (very |)sad. '
            + FRIEND_CAME
            + '"It was hard for me too," said {friend}. '
            '"(You must try again and again|Go slowly and do not give up|Take your time and try one more time)."',
            "{friend} showed {hero} (how to do it|what to do|a little trick). (Every day|Day after day), {hero} "
            "(practiced|tried again). Then, one {weather} morning, {he} did it!",
            '"Look(| at me), {friend}! I can {skill}!" {he} (called|shouted|cried). {friend} clapped and cheered. '
            "{hero} was (very |so )proud.",
        ),
        ("{hero} learned never to give up.", "{hero} learned that it helps to practice every day."),
        (
            ("What did {hero} want to learn?", "{hero} wanted to learn to {skill}."),
            ("Who helped {hero}?", "{friend} the {kin} helped {hero}."),
            ("How did {hero} feel at the end?", "{hero} felt proud."),
        ),
    ),
)
