package index

import (
	"math/rand/v2"
)

var cargo = []string{
	"amber", "barley", "cedar", "cobalt", "copper", "cotton", "ebony", "flaxen", "ginger", "golden",
	"hazel", "honey", "indigo", "ivory", "jade", "linen", "maple", "mellow", "mint", "mossy",
	"nutmeg", "oaken", "olive", "onyx", "opal", "pearly", "pepper", "pewter", "quartz", "rustic",
	"saffron", "sandy", "satin", "scarlet", "silken", "silver", "sisal", "slate", "spruce", "sugar",
	"tawny", "teak", "timber", "topaz", "velvet", "vanilla", "walnut", "waxen", "willow", "woolen",
}

var vessels = []string{
	"barge", "bark", "brig", "buoy", "caravel", "carrack", "clipper", "coaster", "cog", "collier",
	"corvette", "cutter", "dhow", "dinghy", "dory", "drifter", "felucca", "ferry", "frigate", "galleon",
	"galley", "gondola", "hooker", "hoy", "junk", "kayak", "keel", "ketch", "launch", "lighter",
	"longship", "lugger", "packet", "pinnace", "pontoon", "punt", "sampan", "schooner", "skiff", "sloop",
	"smack", "tender", "tjalk", "trawler", "trimaran", "tug", "whaler", "wherry", "xebec", "yawl",
}

// MadeUpName returns a name for a container that was given none. From the
// third try on it has a number, so that a full host still finds one.
func MadeUpName(try int) string {
	name := cargo[rand.IntN(len(cargo))] + "_" + vessels[rand.IntN(len(vessels))]
	if try > 2 {
		const digits = "0123456789"
		for range 1 + try/4 {
			name += string(digits[rand.IntN(len(digits))])
		}
	}
	return name
}
