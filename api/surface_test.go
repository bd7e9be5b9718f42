package api_test

import (
	"fmt"
	"go/types"
	"slices"
	"strings"
)

// surface lists what a package exports, a line for each constant, variable, function, type, field and method.
func surface(pkg *types.Package) []string {
	s := &printer{pkg: pkg}
	for _, name := range pkg.Scope().Names() { // sorted
		if obj := pkg.Scope().Lookup(name); obj.Exported() {
			s.object(obj)
		}
	}
	return s.lines
}

type printer struct {
	pkg   *types.Package
	lines []string
}

func (s *printer) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// name qualifies the names of other packages.
func (s *printer) name(other *types.Package) string {
	if other == s.pkg {
		return ""
	}
	return other.Name()
}

func (s *printer) object(obj types.Object) {
	switch obj := obj.(type) {
	case *types.Const:
		s.say("const %s %s = %s", obj.Name(), types.TypeString(obj.Type(), s.name), obj.Val().ExactString())
	case *types.TypeName:
		s.typeName(obj)
	default:
		s.say("%s", types.ObjectString(obj, s.name))
	}
}

func (s *printer) typeName(obj *types.TypeName) {
	params := typeParams(obj.Type(), s.name)
	if !obj.IsAlias() {
		s.say("type %s%s %s", obj.Name(), params, s.kind(obj.Type().Underlying()))
		s.parts(obj.Name(), obj.Type())
		return
	}
	target := types.Unalias(obj.Type())
	s.say("type %s%s = %s", obj.Name(), params, types.TypeString(obj.Type().(*types.Alias).Rhs(), s.name))
	if named, ok := target.(*types.Named); ok && strings.Contains(named.Obj().Pkg().Path(), "/internal/") {
		// Nobody else may name it, so this is where it is public.
		s.say("type %s %s", obj.Name(), s.kind(target.Underlying()))
		s.parts(obj.Name(), target)
	}
}

// kind is a type's underlying one, whose parts have lines of their own.
func (s *printer) kind(t types.Type) string {
	switch t := t.(type) {
	case *types.Struct:
		return "struct"
	case *types.Interface:
		return "interface"
	default:
		return types.TypeString(t, s.name)
	}
}

// parts lists fields and methods.
func (s *printer) parts(name string, t types.Type) {
	switch under := t.Underlying().(type) {
	case *types.Struct:
		s.fields(name, under)
	case *types.Interface:
		for m := range under.Methods() {
			if m.Exported() {
				s.say("interface %s, %s%s", name, m.Name(), s.signature(m))
			} else {
				s.say("interface %s, with unexported methods", name)
			}
		}
		return
	}
	s.methods(name, t)
}

func (s *printer) fields(name string, t *types.Struct) {
	hidden := false
	for f := range t.Fields() {
		switch {
		case !f.Exported():
			hidden = true
		case f.Embedded():
			s.say("struct %s, embedded %s", name, types.TypeString(f.Type(), s.name))
		default:
			s.say("struct %s, %s %s", name, f.Name(), types.TypeString(f.Type(), s.name))
		}
	}
	if hidden {
		s.say("struct %s, with unexported fields", name)
	}
}

// methods lists the methods of t, those included that it has from embedded fields which are not exported.
func (s *printer) methods(name string, t types.Type) {
	byValue := types.NewMethodSet(t)
	for selection := range types.NewMethodSet(types.NewPointer(t)).Methods() {
		m := selection.Obj().(*types.Func)
		if !m.Exported() || throughExported(t, selection.Index()) {
			continue
		}
		receiver := "*" + name
		if byValue.Lookup(m.Pkg(), m.Name()) != nil {
			receiver = name
		}
		s.say("func (%s) %s%s", receiver, m.Name(), s.signature(m))
	}
}

// throughExported tells whether the path to a method begins with an exported embedded field.
func throughExported(t types.Type, path []int) bool {
	under, ok := t.Underlying().(*types.Struct)
	return ok && len(path) > 1 && under.Field(path[0]).Exported()
}

func (s *printer) signature(m *types.Func) string {
	return strings.TrimPrefix(types.TypeString(m.Signature(), s.name), "func")
}

func typeParams(t types.Type, name types.Qualifier) string {
	var list *types.TypeParamList
	switch t := t.(type) {
	case *types.Named:
		list = t.TypeParams()
	case *types.Alias:
		list = t.TypeParams()
	}
	if list.Len() == 0 {
		return ""
	}
	var params []string
	for p := range list.TypeParams() {
		params = append(params, p.Obj().Name()+" "+types.TypeString(p.Constraint(), name))
	}
	return "[" + strings.Join(slices.Clip(params), ", ") + "]"
}
