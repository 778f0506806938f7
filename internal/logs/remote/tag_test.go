package remote

import (
	"strings"
	"testing"
)

// Tags that would make texts without end are refused; others are made as before.
func TestTagsAreBounded(t *testing.T) {
	square := `{{$a := print "` + strings.Repeat("x", 400) + `"}}`
	for tag, good := range map[string]bool{
		`{{join (split "a.b" ".") "-"}}`:                                                true,
		`{{printf "%5s %d" "a" 3}}`:                                                     true,
		square + `{{$b := join (split $a "") $a}}`:                                      false,
		square + strings.Repeat(`{{$a = print $a $a}}`, 30):                             false,
		`{{$b := printf "%1000000000d" 1}}`:                                             false,
		`{{$b := printf "%.*d" 1000000000 1}}`:                                          false,
		square + strings.Repeat(`{{$a = print (json $a) (urlquery $a) (html $a)}}`, 30): false,
	} {
		_, err := Tag(map[string]string{"tag": tag}, "", &Subject{})
		if (err == nil) != good {
			t.Errorf("%.60s: %v", tag, err)
		}
	}
}
