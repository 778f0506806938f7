package opts

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// maxPorts bounds what the short text of a range can ask for.
const maxPorts = 1 << 16

// ParsePublish reads values of --publish into the ports a container exposes
// and where they appear on the host:
//
//	80                     a free port of the host, chosen by the engine
//	8080:80/udp            port 8080 on all addresses
//	127.0.0.1:8080:80      port 8080 on one address; [::1]:8080:80 likewise
//	8000-8010:80           the first free one of a range
//	7000-7005:8000-8005    several
//	target=80,published=8080,protocol=udp
func ParsePublish(specs []string) (network.PortSet, network.PortMap, error) {
	exposed, bound := network.PortSet{}, network.PortMap{}
	for _, spec := range specs {
		if strings.Contains(spec, "=") {
			var err error
			if spec, err = longPort(spec); err != nil {
				return nil, nil, err
			}
		}
		if err := publish(spec, exposed, bound); err != nil {
			return nil, nil, err
		}
	}
	return exposed, bound, nil
}

// publish adds the ports of one value.
func publish(spec string, exposed network.PortSet, bound network.PortMap) error {
	host, inside := splitPublish(spec)
	ip, hostPorts, err := splitHost(host)
	if err != nil {
		return err
	}
	proto, inside, err := splitProto(inside)
	if err != nil {
		return err
	}
	if inside == "" {
		return fmt.Errorf("no port specified: %s<empty>", spec)
	}
	first, last, err := portRange(inside)
	if err != nil {
		return fmt.Errorf("invalid containerPort: %s", inside)
	}
	var from, to uint16
	if hostPorts != "" {
		if from, to, err = portRange(hostPorts); err != nil {
			return fmt.Errorf("invalid hostPort: %s", hostPorts)
		}
	}
	// A range of the host may be wider than one port inside: any of it will do.
	choice := hostPorts != "" && to-from != last-first
	if choice && first != last {
		return fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", inside, hostPorts)
	}
	for i := range int(last-first) + 1 {
		port, ok := network.PortFrom(first+uint16(i), proto)
		if !ok {
			return fmt.Errorf("invalid containerPort: %s", inside)
		}
		text := ""
		switch {
		case choice:
			text = fmt.Sprintf("%d-%d", from, to)
		case hostPorts != "":
			text = strconv.Itoa(int(from) + i)
		}
		exposed[port] = struct{}{}
		bound[port] = append(bound[port], network.PortBinding{HostIP: ip, HostPort: text})
	}
	return nil
}

// splitPublish parts [ip:][host:]container at its last colon.
func splitPublish(spec string) (host, inside string) {
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		return spec[:i], spec[i+1:]
	}
	return "", spec
}

// splitHost parts "ip:ports" of the host; each half may be missing.
func splitHost(host string) (netip.Addr, string, error) {
	addr, ports := "", host
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		addr, ports = host[:i], host[i+1:]
	}
	if addr == "" {
		return netip.Addr{}, ports, nil
	}
	raw := addr
	if strings.HasPrefix(addr, "[") && strings.HasSuffix(addr, "]") {
		raw = addr[1 : len(addr)-1]
	}
	ip, err := netip.ParseAddr(raw)
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, "", fmt.Errorf("invalid IP address: %s", addr)
	}
	return ip, ports, nil
}

func splitProto(port string) (network.IPProtocol, string, error) {
	number, proto, ok := strings.Cut(port, "/")
	if !ok || proto == "" {
		return network.TCP, number, nil
	}
	switch p := network.IPProtocol(strings.ToLower(proto)); p {
	case network.TCP, network.UDP, network.SCTP:
		return p, number, nil
	}
	return "", "", fmt.Errorf("invalid proto: %s", proto)
}

// portRange reads "80" or "80-90".
func portRange(s string) (first, last uint16, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	lo, err := strconv.ParseUint(a, 10, 16)
	if err != nil {
		return 0, 0, err
	}
	hi, err := strconv.ParseUint(b, 10, 16)
	if err != nil {
		return 0, 0, err
	}
	if hi < lo {
		return 0, 0, errors.New("invalid range specified for port: " + s)
	}
	return uint16(lo), uint16(hi), nil
}

// longPort turns the key=value form into the short one.
func longPort(spec string) (string, error) {
	var target, published, proto string
	for _, field := range strings.Split(spec, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return "", fmt.Errorf("invalid field: %s", field)
		}
		switch strings.ToLower(key) {
		case "target":
			target = value
		case "published":
			published = value
		case "protocol":
			if p := strings.ToLower(value); p != "tcp" && p != "udp" && p != "sctp" {
				return "", fmt.Errorf("invalid protocol value '%s'", value)
			}
			proto = "/" + value
		case "mode":
			if value != "host" && value != "ingress" {
				return "", fmt.Errorf("invalid publish mode value (%s): must be either '%s' or '%s'", value, "ingress", "host")
			}
		default:
			return "", fmt.Errorf("invalid field key: %s", key)
		}
	}
	if target == "" {
		return "", fmt.Errorf("missing mandatory field '%s'", "target")
	}
	if published != "" {
		return published + ":" + target + proto, nil
	}
	return target + proto, nil
}

// ParseExpose adds values of --expose, such as 80/udp or 8000-8010, to the
// ports a container exposes.
func ParseExpose(specs []string, exposed network.PortSet) error {
	for _, spec := range specs {
		if strings.Contains(spec, ":") {
			return fmt.Errorf("invalid port format for --expose: %s", spec)
		}
		proto, ports, err := splitProto(spec)
		if err != nil {
			return fmt.Errorf("invalid range format for --expose: %s, error: %w", spec, err)
		}
		first, last, err := portRange(ports)
		if err != nil {
			return fmt.Errorf("invalid range format for --expose: %s, error: %w", spec, err)
		}
		for n := int(first); n <= int(last) && n < maxPorts; n++ {
			port, ok := network.PortFrom(uint16(n), proto)
			if !ok {
				return fmt.Errorf("invalid range format for --expose: %s", spec)
			}
			exposed[port] = struct{}{}
		}
	}
	return nil
}

// ValidateMAC refuses what is no hardware address.
func ValidateMAC(s string) (network.HardwareAddr, error) {
	mac, err := net.ParseMAC(strings.TrimSpace(s))
	if err != nil {
		return nil, fmt.Errorf("%s is not a valid mac address", s)
	}
	return network.HardwareAddr(mac), nil
}
