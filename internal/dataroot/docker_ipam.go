package dataroot

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/moby/moby/api/types/network"
)

// subnets reads which subnets a network was asked for and which it got. One made now
// gets the same, whether they were asked for or not: containers may rely on them.
func subnets(asked, got string) ([]network.IPAMConfig, error) {
	var wanted []struct {
		SubPool      string
		AuxAddresses map[string]string
	}
	var info []struct{ IPAMData string }
	for text, to := range map[string]any{asked: &wanted, got: &info} {
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), to); err != nil {
			return nil, fmt.Errorf("addresses: %w", err)
		}
	}
	var list []network.IPAMConfig
	for i := range info {
		var data struct{ Pool, Gateway string }
		if err := json.Unmarshal([]byte(info[i].IPAMData), &data); err != nil {
			return nil, fmt.Errorf("addresses: %w", err)
		}
		c := network.IPAMConfig{}
		var err error
		if c.Subnet, err = netip.ParsePrefix(data.Pool); err != nil {
			return nil, fmt.Errorf("subnet %.100q: %w", data.Pool, err)
		}
		if data.Gateway != "" {
			p, err := netip.ParsePrefix(data.Gateway)
			if err != nil {
				return nil, fmt.Errorf("gateway %.100q: %w", data.Gateway, err)
			}
			c.Gateway = p.Addr()
		}
		if i < len(wanted) {
			if err := addWanted(&c, wanted[i].SubPool, wanted[i].AuxAddresses); err != nil {
				return nil, err
			}
		}
		list = append(list, c)
	}
	return list, nil
}

func addWanted(c *network.IPAMConfig, subPool string, aux map[string]string) (err error) {
	if subPool != "" {
		if c.IPRange, err = netip.ParsePrefix(subPool); err != nil {
			return fmt.Errorf("range %.100q: %w", subPool, err)
		}
	}
	for name, text := range aux {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("address %.100q: %w", text, err)
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = a
	}
	return nil
}
