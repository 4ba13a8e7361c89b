"""The second half of the plots."""

from __future__ import annotations

from tools.demo_model.plots import FRIEND_CAME, ONE_DAY, Plot

MORE_PLOTS = (
    Plot(
        "lost way",
        "who got lost",
        (
            ONE_DAY + ", {hero} saw a (beautiful|pretty) {color} butterfly "
            "and followed it (far away from home|over the fields). "
            "Then the butterfly flew away, and {hero} looked around. {He} did not know the way home. {He} was lost!",
            "{He} went left and then right, but every tree looked the same. "
            "(The sun was going down|It was getting dark). "
            "{hero} sat down (under a tree|on a stone) and felt (scared|afraid) and alone.",
            '{friend} the {kin} was on the way home and saw {him}. "Are you lost?" {friend.he} asked. '
            '"Yes," said {hero}. "I want to go home."',
            '"(Come with me|I can show you the way)," said {friend}. '
            '"(We must follow the river|We must follow the stars|The moon will give us light)." '
            'They walked side by side until {hero} saw {his} (own |)house. "Thank you, {friend}!" {he} (said|cried).',
        ),
        ("{hero} learned not to walk too far alone.", "After that, {hero} always stayed close to home."),
        (
            ("What did {hero} follow?", "{hero} followed {a_color} butterfly."),
            ("Who showed {hero} the way home?", "{friend} the {kin} showed {hero} the way home."),
            ("What color was the butterfly?", "The butterfly was {color}."),
        ),
    ),
    Plot(
        "birthday",
        "who had a birthday",
        (
            "One {weather} morning, it was {hero}'s birthday, but no one said (anything|a word). "
            "{hero} went to see {his} friend, {friend} the {kin}. "
            '"I am (very |)busy today," said {friend} and (ran away|closed the door).',
            '{hero} walked home slowly. "(Everyone|They all) forgot my birthday," {he} thought, '
            "and {he} felt (very |)sad.",
            'But when {he} opened {his} door, {he} saw lights and heard many voices. "Surprise!" everyone shouted. '
            "{friend} had (baked|made) a big cake, and all the animals were there.",
            '"We could never forget you," said {friend}. {friend.He} gave {hero} {a_thing}. '
            "They (sang|danced|ate cake) and (played games|laughed) until the stars came out.",
        ),
        ("It was the best birthday ever.", "{hero} learned that {his} friends would never forget {him}."),
        (
            ("What did {friend} give {hero}?", "{friend} gave {hero} {a_thing}."),
            ("Whose birthday was it?", "It was {hero}'s birthday."),
            ("Why was {hero} sad?", "{hero} was sad because everyone forgot the birthday."),
        ),
        new_friends=False,
    ),
    Plot(
        "seed",
        "who planted a seed",
        (
            ONE_DAY + ", {hero} found a (tiny|little|small) seed {spot}. {He} put it in the ground and gave it water. "
            "The next (day|morning), {he} looked, but there was nothing. {He} waited (two|three|four) days. "
            "(Still nothing|Nothing happened|Nothing grew).",
            '"This seed is no good," said {hero}. {He} felt sad and wanted to dig it up. '
            + FRIEND_CAME
            + '"(Wait|Be patient)," said {friend}. "A seed needs water, sun and time."',
            "So {hero} gave it water every (day|morning) and sang it a little song. "
            "Then, one {weather} day, a (small|tiny) green leaf came up. It grew and grew.",
            "In the end, there was a (big|beautiful) {flower_color} flower. "
            '"Look, {friend}!" said {hero}. "(You were right|I am so glad we waited)!"',
        ),
        ("{hero} learned that good things take time.", "{hero} learned to be patient."),
        (
            ("What did {hero} find?", "{hero} found a seed."),
            ("What color was the flower?", "The flower was {flower_color}."),
            ("Where was the seed?", "The seed was {spot}."),
        ),
    ),
    Plot(
        "sick friend",
        "who helped a sick friend",
        (
            ONE_DAY + ", {hero} wanted to play with {his} friend, {friend} the {kin}. But {friend} was sick in bed. "
            '"I have a cold," said {friend}. "I (can not|am too tired to) play today."',
            '{hero} was (sad|worried). "What can I do?" {he} thought. '
            "{He} ran home and made (a pot of|some) (hot|warm) {drink}. {He} took {his} {color} blanket too.",
            "{hero} brought everything to {friend}. {friend} drank the {drink} slowly, and {hero} "
            "(read {friend.him} a story|told {friend.him} a (funny |)story|sang {friend.him} a song).",
            "(The next day|After two days|Soon), {friend} felt (much |)better. "
            '"(Your {drink} was the best medicine|You are a true friend)," {friend.he} said. '
            "They ran outside and played in the sun.",
        ),
        (
            "{hero} learned that it feels good to take care of a friend.",
            "{hero} learned that a little care can do a lot.",
        ),
        (
            ("Who was sick?", "{friend} the {kin} was sick."),
            ("What did {hero} make?", "{hero} made some {drink}."),
            ("What color was the blanket?", "The blanket was {color}."),
        ),
        new_friends=False,
    ),
    Plot(
        "race",
        "who ran a race",
        (
            ONE_DAY + ", there was a big race {far_at}. All the animals came, and {hero} wanted to win. "
            '"(Ready, set, go|One, two, three, go)!" (called|shouted) the old owl.',
            "{hero} ran (as fast as {he} could|like the wind). (Soon {he} was in front.|Soon {he} was first.) "
            "But then {he} heard a cry. {friend} the {kin} had fallen down and hurt {friend.his} (foot|leg|knee).",
            "{hero} stopped. {He} (turned around|went back) and helped {friend} to stand up. "
            '"(Lean on me|We can walk together)," {he} said. They walked step by step and came in last, side by side.',
            "All the animals (clapped|cheered) (louder than ever|for both of them). "
            '"{hero} has the biggest heart," said the old owl. The owl gave {him} {a_thing} as a prize.',
        ),
        (
            "{hero} learned that helping a friend is better than winning.",
            "{hero} did not win the race, but {he} won a friend.",
        ),
        (
            ("Who fell down?", "{friend} the {kin} fell down."),
            ("Where was the race?", "The race was {far_at}."),
            ("What was the prize?", "The prize was {a_thing}."),
        ),
    ),
    Plot(
        "building",
        "who built a {project}",
        (
            ONE_DAY + ", {hero} wanted to build a {project}. {He} took some (wood|sticks) and started to work. "
            "But (crash|bump|bang)! The {project} fell down. {He} tried again, and it fell down again.",
            '"It is too hard," {he} (said|sighed). {hero} felt tired and sad. '
            + FRIEND_CAME
            + '"(Let me help you|I will help you|We can do it together)," said {friend}. '
            '"(You need strong wood|You need more nails|Two can do more than one)."',
            "{friend} (held|carried) the wood, and {hero} used the hammer. "
            "They worked (all day|from morning to night|for three days).",
            "At last, the {project} was (ready|finished), and it did not fall down. "
            '"We did it!" they (shouted|cried). (|{hero} shared {a_food} with {friend}.)',
        ),
        ("{hero} learned that two can do more than one.", "{hero} learned that work is easier with a friend."),
        (
            ("What did {hero} build?", "{hero} built a {project}."),
            ("Who helped {hero}?", "{friend} the {kin} helped {hero}."),
            ("What did {hero} use?", "{hero} used the hammer."),
        ),
    ),
    Plot(
        "found thing",
        "who found {a_thing}",
        (
            ONE_DAY + ", {hero} found {a_thing} {spot}. It was (so|very) (pretty|beautiful|nice). "
            '"(I want to keep it|Now it is mine)," {he} thought.',
            "(But then|A little later), {he} saw {friend} the {kin}. {friend} was (crying|looking for something). "
            '"(I lost my {color} {thing}|My {color} {thing} is gone)," said {friend}. '
            '"My (grandmother|mother|grandfather) gave it to me."',
            "{hero} held the {thing} behind {his} back. {He} wanted to keep it, but {he} knew what was right. "
            '"Is this your {thing}?" {he} asked and gave it back.',
            '{friend} (smiled a big smile|jumped for joy). "(You found it|Yes, that is mine)! Thank you, {hero}!" '
            "{friend} was so happy that {friend.he} gave {hero} {a_food}.",
        ),
        (
            "{hero} learned that it feels good to do the right thing.",
            "{hero} learned that giving is better than keeping.",
        ),
        (
            ("What did {hero} find?", "{hero} found {a_thing}."),
            ("Who lost the {thing}?", "{friend} the {kin} lost the {thing}."),
            ("What did {friend} give {hero}?", "{friend} gave {hero} {a_food}."),
            ("Where was the {thing}?", "The {thing} was {spot}."),
        ),
    ),
    Plot(
        "moon in the water",
        "who wanted to save the moon",
        (
            "One (clear|quiet|warm) night, {hero} went for a walk and saw the moon in the water. "
            '"Oh no! The moon fell (down|into the water)!" {he} cried.',
            "{He} tried to get the moon out with a {catcher}. {He} tried and tried, "
            "but the {catcher} was always empty. {hero} felt (very |so )sad.",
            '{friend} the {kin} came by. "What are you doing?" {friend.he} asked. '
            '"I want to (save|help) the moon," said {hero}. "Look up," said {friend} with a smile.',
            "{hero} looked up. There was the moon, (big and round|round and bright), high in the sky. "
            '"The water is like a mirror," said {friend}. {hero} had to laugh. '
            "(They sat side by side and looked at the moon|They sat down together and counted the stars).",
        ),
        (
            "{hero} learned that sometimes you only have to look up.",
            "{hero} learned that the moon was safe in the sky.",
        ),
        (
            ("What did {hero} see in the water?", "{hero} saw the moon in the water."),
            ("What did {hero} use?", "{hero} used a {catcher}."),
            ("Who said to look up?", "{friend} the {kin} said to look up."),
        ),
        at_night=True,
    ),
)
