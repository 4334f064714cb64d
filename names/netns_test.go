package names

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A daemon that does not see Docker's mounts finds a plain file where a container's namespace is, and is told so.
func TestNamespaceThatIsNotMounted(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "1234567890ab"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	err = within(int(file.Fd()), func() error {
		t.Error("ran where no namespace is")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "does not see what Docker mounts") {
		t.Errorf("got %v", err)
	}
}
